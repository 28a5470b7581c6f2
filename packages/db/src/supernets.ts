import { newId } from '@ntaa/contracts';
import { isUniqueViolation, json, type Client } from './client.js';
import type { Direct } from './direct.js';
import { newestFirst, pageOf } from './page.js';
import { toSupernet } from './rows.js';
import { NameTaken, type NewSupernet, type Supernets } from './types.js';

/** Owner of what ships with the service: every tenant sees it. */
const BUILTIN = 'builtin';

export function supernetColumns(supernet: Omit<NewSupernet, 'id'>) {
  return {
    name: supernet.name,
    source: supernet.source,
    paradigm: supernet.paradigm,
    searchSpace: json(supernet.search_space),
    architectures: supernet.architectures,
    params: supernet.params,
    sizeBytes: supernet.size_bytes,
    sha256: supernet.sha256,
    metrics: json(supernet.metrics),
    key: supernet.key,
  };
}

export function supernets(db: Client, sql: Direct): Supernets {
  const visible = (tenant: string) => ({ tenantId: { in: [tenant, BUILTIN] } });
  const find = (tenant: string, idOrName: string) =>
    db.supernet.findFirst({
      where: { ...visible(tenant), OR: [{ id: idOrName }, { name: idOrName }] },
      orderBy: { builtin: 'desc' },
    });
  return {
    async upsertBuiltin(supernet) {
      const columns = supernetColumns({ ...supernet, key: null });
      const row = await db.supernet.upsert({
        where: { tenantId_name: { tenantId: BUILTIN, name: supernet.name } },
        create: { id: newId('sn'), tenantId: BUILTIN, builtin: true, ...columns },
        update: columns,
      });
      return toSupernet(row);
    },
    async create(tenant, supernet) {
      if (await find(tenant, supernet.name)) throw new NameTaken(supernet.name);
      try {
        const data = { id: supernet.id, tenantId: tenant, ...supernetColumns(supernet) };
        return toSupernet(await db.supernet.create({ data }));
      } catch (error) {
        throw isUniqueViolation(error) ? new NameTaken(supernet.name) : error;
      }
    },
    async get(tenant, idOrName) {
      const [row] = await sql.$queryRaw<Parameters<typeof toSupernet>[0][]>`
        SELECT id, name, source, paradigm, search_space AS "searchSpace", architectures, params, size_bytes AS "sizeBytes",
          sha256, metrics, builtin, created_at AS "createdAt"
        FROM supernets WHERE tenant_id IN (${tenant}, ${BUILTIN}) AND (id = ${idOrName} OR name = ${idOrName})
        ORDER BY builtin DESC LIMIT 1`;
      return row ? toSupernet(row) : null;
    },
    async list(tenant, options = {}) {
      const query = await newestFirst(tenant, options, (id) =>
        db.supernet.count({ where: { id, ...visible(tenant) } }),
      );
      const where = { ...query.where, ...visible(tenant) };
      return pageOf(await db.supernet.findMany({ ...query, where }), query.take, (row) => row.id, toSupernet);
    },
    async stored(tenant, idOrName) {
      const row = await find(tenant, idOrName);
      return row && { ...toSupernet(row), key: row.key };
    },
  };
}
