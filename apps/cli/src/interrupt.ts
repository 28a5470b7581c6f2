/**
 * Ctrl-C and its relatives. The first aborts `signal`; `onSecond` hears of the next. A closed terminal (SIGHUP) and a
 * service manager (SIGTERM) ask for the same.
 */
export function onInterrupt(): { signal: AbortSignal; onSecond: (force: () => void) => void } {
  const controller = new AbortController();
  let force: () => void = () => undefined;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(name, () => {
      if (controller.signal.aborted) force();
      else controller.abort(new Interrupt(name));
    });
  return {
    signal: controller.signal,
    onSecond: (callback) => {
      force = callback;
    },
  };
}

/** Why something was given up: the user asked for it. */
export class Interrupt extends Error {
  override name = 'Interrupt';
  constructor(signal: string) {
    super(`Stopped by ${signal}`);
  }
}

/** Rejects with the signal's reason once it is aborted. */
export function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const fail = (): void => reject(signal.reason as Error);
    if (signal.aborted) fail();
    else signal.addEventListener('abort', fail, { once: true });
  });
}
