/**
 * Time as the harness counts its patience: while this process, and with it the service, is stopped (SIGSTOP, a machine
 * that sleeps), none passes.
 */
const TICK_MS = 200;
/** A tick that is later than this was not late, but stopped. */
const GAP_MS = 2000;

let stopped = 0;
let count = 0;
let last = performance.now();
function look() {
  const now = performance.now();
  if (now - last > GAP_MS) {
    stopped += now - last;
    count += 1;
  }
  last = now;
  return now;
}
setInterval(look, TICK_MS).unref();

/** How often it was stopped. */
export const stops = () => (look(), count);
/** Milliseconds that passed while this process could run. */
const elapsed = () => look() - stopped;
/** A function that tells whether so many of them have passed since. */
export function deadline(milliseconds) {
  const end = elapsed() + milliseconds;
  return () => elapsed() > end;
}

let slowness = 1;
/** How many times slower than usual this machine is: what is waited for takes that much longer. */
export function beSlow(times) {
  slowness = times;
}
/** A deadline for what takes processor time, and no promise of the service. */
export const patience = (milliseconds) => deadline(milliseconds * slowness);
