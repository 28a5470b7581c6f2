/** The engine that numerical tests run on: the embedded one, or the one that NTAA_TEST_ENGINE names. */
import { initEngine, type EngineChoice } from '@ntaa/engine';

export const TEST_ENGINE = (process.env['NTAA_TEST_ENGINE'] ?? 'wasm') as EngineChoice;

/** For what only our own kernels can be tested by. */
export const ON_WASM = TEST_ENGINE === 'wasm';

export const startTestEngine = () => initEngine(TEST_ENGINE);
