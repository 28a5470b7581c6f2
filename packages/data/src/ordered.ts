/**
 * Runs `work` over `items` with at most `limit` at a time and yields the results in the order of the items. Items are
 * taken only as they are needed. The first failure ends it.
 */
export async function* ordered<Item, Result>(
  items: Iterable<Item> | AsyncIterable<Item>,
  limit: number,
  work: (item: Item) => Promise<Result>,
): AsyncGenerator<Result> {
  const running: Promise<Result>[] = [];
  try {
    for await (const item of items) {
      const result = work(item);
      result.catch(() => undefined); // reported when its turn comes
      running.push(result);
      if (running.length >= limit) yield await running.shift()!;
    }
    while (running.length > 0) yield await running.shift()!;
  } finally {
    // Nobody's files are closed under work in progress.
    await Promise.allSettled(running);
  }
}
