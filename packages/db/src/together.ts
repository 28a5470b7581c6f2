/**
 * Calls that come while another is being answered go together in the next: a statement and a commit for many of them. With
 * little to do nobody waits; with much, each costs less.
 */
export function together<T, R>(
  run: (items: readonly T[]) => Promise<readonly R[]>,
  most = 100,
): (item: T) => Promise<R> {
  let waiting: { item: T; done: (result: R) => void; fail: (error: unknown) => void }[] = [];
  let running = false;

  async function drain(): Promise<void> {
    running = true;
    while (waiting.length > 0) {
      const batch = waiting.slice(0, most);
      waiting = waiting.slice(most);
      try {
        const results = await run(batch.map(({ item }) => item));
        batch.forEach(({ done }, i) => done(results[i]!));
      } catch (error) {
        // One of them may be at fault; the others need not share its fate.
        if (batch.length === 1) batch[0]!.fail(error);
        else
          for (const { item, done, fail } of batch) await run([item]).then(([result]) => done(result!), fail);
      }
    }
    running = false;
  }
  return (item) =>
    new Promise((done, fail) => {
      waiting.push({ item, done, fail });
      if (!running) void drain();
    });
}
