/**
 * A family turns a class's random stream into that class's formula: a function that draws an instance, whose small
 * differences come from the instance's own stream.
 */
import type { Rng } from '@ntaa/random';
import type { Canvas } from './canvas.js';
import type { Ink } from './colour.js';

/** Draws one instance in unit coordinates; `inks` has INKS entries. */
export type Drawer = (canvas: Canvas, rng: Rng, inks: readonly Ink[]) => void;

/** Draws a class at random. */
export type Family = (rng: Rng) => Drawer;
