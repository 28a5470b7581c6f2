/** What an experiment compares: arms by name, in the order in which they first came, each with a result a seed. */
export function collectArms() {
  const arms = new Map();
  return {
    add(name, about, result) {
      if (!arms.has(name)) arms.set(name, { name, about, results: [] });
      arms.get(name).results.push(result);
    },
    list: () => [...arms.values()],
  };
}
