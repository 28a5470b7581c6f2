/**
 * Formula-driven images: labelled pictures made by code, so that a supernet can be pretrained without any real image,
 * and hence without any image of a user's benchmark. A class is a formula drawn at random, an instance a small variation
 * of it (after FractalDB, Kataoka et al., ACCV 2020; the other families are ours or after RCDB).
 */
import { Rng } from '@ntaa/random';
import { bell, between, chance, cosTurn, sinTurn } from './formula/arithmetic.js';
import { Canvas, IDENTITY, type Pose } from './formula/canvas.js';
import { INKS, mixInks, paintBackground, randomHsv, type Hsv } from './formula/colour.js';
import { contour } from './formula/contour.js';
import type { Drawer, Family } from './formula/family.js';
import { fractal } from './formula/fractal.js';
import { shape } from './formula/shape.js';
import { stroke } from './formula/stroke.js';
import { texture } from './formula/texture.js';

const FAMILIES = { fractal, contour, stroke, shape, texture } satisfies Record<string, Family>;

export type FormulaFamily = keyof typeof FAMILIES;

export interface FormulaOptions {
  /** Number of classes. Class k is the same formula whatever the number of classes. */
  classes: number;
  /** Side of the square images, pixels. */
  size: number;
  seed: number;
  /** Families that take turns in providing the classes; default all. */
  families?: readonly FormulaFamily[];
  /** Share of classes that have colours of their own; the others are told apart by form alone; default TINY_RECIPE's. */
  colouredClasses?: number;
}

interface FormulaClass {
  draw: Drawer;
  /** The class's own colours, where it has any. */
  colours?: readonly Hsv[];
}

/** A labelled source of formula images: a pure function of (seed, class, instance), the same on every machine. */
export class FormulaSource {
  readonly classes: number;
  readonly size: number;
  readonly #seed: number;
  readonly #formulas: FormulaClass[];
  readonly #canvas: Canvas;

  constructor(options: FormulaOptions) {
    const {
      classes,
      size,
      seed,
      families = TINY_RECIPE.families,
      colouredClasses = TINY_RECIPE.colouredClasses,
    } = options;
    if (!(Number.isInteger(classes) && classes > 0))
      throw new RangeError(`classes must be a positive integer: ${classes}`);
    if (!(Number.isInteger(size) && size >= 8))
      throw new RangeError(`size must be an integer of at least 8: ${size}`);
    if (families.length === 0) throw new RangeError('families must not be empty');
    this.classes = classes;
    this.size = size;
    this.#seed = seed;
    this.#canvas = new Canvas(size);
    this.#formulas = Array.from({ length: classes }, (_, k): FormulaClass => {
      const family = families[k % families.length]!;
      const rng = new Rng('formula', seed, family, Math.floor(k / families.length));
      const draw = FAMILIES[family](rng);
      if (!chance(rng, colouredClasses)) return { draw };
      return { draw, colours: Array.from({ length: INKS }, () => randomHsv(rng)) };
    });
  }

  /** Writes the RGB bytes, size x size x 3, of an instance (any integer) of a class into `out`. */
  render(classIndex: number, instance: number, out: Uint8Array): void {
    const formula = this.#formulas[classIndex];
    if (!formula) throw new RangeError(`class ${classIndex} of ${this.classes}`);
    const bytes = this.size * this.size * 3;
    if (out.length !== bytes) throw new RangeError(`out must hold ${bytes} bytes: ${out.length}`);
    const rng = new Rng('instance', this.#seed, classIndex, instance);
    const canvas = this.#canvas;
    canvas.pose = IDENTITY;
    const background = paintBackground(rng, canvas);
    const inks = mixInks(rng, background, formula.colours);
    canvas.pose = samplePose(rng);
    formula.draw(canvas, rng, inks);
    if (chance(rng, 0.15)) canvas.cloud(between(rng, 2, 6), 0.4, rng.uint32());
    if (chance(rng, 0.2)) canvas.grain(between(rng, 0, 0.3), rng.uint32());
    if (chance(rng, 0.25)) canvas.desaturate();
    canvas.write(out);
  }
}

/** Turn by up to 20 degrees, scale, squeeze, shear and shift. */
function samplePose(rng: Rng): Pose {
  const angle = 0.055 * between(rng, -1, 1);
  const scale = between(rng, 0.65, 1.1);
  const squeeze = 1 + 0.25 * bell(rng);
  const shear = 0.25 * bell(rng);
  const [c, s] = [cosTurn(angle), sinTurn(angle)];
  const [w, h] = [scale * squeeze, scale / squeeze];
  return {
    xx: c * w,
    xy: c * shear - s * h,
    yx: s * w,
    yy: s * shear + c * h,
    dx: 0.3 * bell(rng),
    dy: 0.3 * bell(rng),
  };
}

/**
 * The source of the built-in `tiny` supernet. docs/LOG.md (2026-11-23) says what was measured: that it helps at all, and
 * a few alternatives on a smaller net; not that it is the best.
 */
export const TINY_RECIPE = {
  classes: 400,
  size: 32,
  seed: 1,
  families: ['fractal', 'contour', 'stroke', 'shape', 'texture'] as readonly FormulaFamily[],
  colouredClasses: 0.5,
  /** Instances a class. */
  instances: 150,
} as const;
