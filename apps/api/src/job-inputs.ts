/** What jobs are checked against: their datasets and supernets. */
import type { Dataset, Supernet } from '@ntaa/contracts';
import type { Database } from '@ntaa/db';

export interface JobInputs {
  dataset(tenant: string, id: string): Promise<Dataset | null>;
  supernet(tenant: string, idOrName: string): Promise<Supernet | null>;
}
export const freshInputs = (db: Database): JobInputs => ({
  dataset: (tenant, id) => db.datasets.get(tenant, id),
  supernet: (tenant, idOrName) => db.supernets.get(tenant, idOrName),
});

const KEPT_MS = 10_000;
const MOST = 1000;

/**
 * The same, remembered for a while. Datasets that are ready do not change, and supernets stay; a dataset that was deleted
 * meanwhile is missed by the statement that makes the job, and then everything has to be asked for afresh.
 */
export function rememberedInputs(db: Database): JobInputs & { forget(): void } {
  const kept = new Map<string, { until: number; value: unknown }>();
  async function remember<T>(name: string, ask: () => Promise<T>, keep: (value: T) => T | null): Promise<T> {
    const known = kept.get(name);
    if (known && known.until > Date.now()) return known.value as T;
    const value = await ask();
    const slim = keep(value);
    if (kept.size >= MOST) kept.clear();
    if (slim !== null) kept.set(name, { until: Date.now() + KEPT_MS, value: slim });
    return value;
  }
  const fresh = freshInputs(db);
  return {
    dataset: (tenant, id) =>
      remember(
        `dataset ${tenant} ${id}`,
        () => fresh.dataset(tenant, id),
        // Labels and reports can be long, and are not looked at.
        (dataset) => (dataset?.status === 'ready' ? { ...dataset, labels: null, report: null } : null),
      ),
    supernet: (tenant, idOrName) =>
      remember(
        `supernet ${tenant} ${idOrName}`,
        () => fresh.supernet(tenant, idOrName),
        (supernet) => supernet,
      ),
    forget: () => kept.clear(),
  };
}
