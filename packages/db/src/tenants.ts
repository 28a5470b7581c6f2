import { newId, type Quotas } from '@ntaa/contracts';
import { json, type Client } from './client.js';
import { answerOnce } from './idempotency.js';
import { pageOf, take } from './page.js';
import { quotasOf, requireRoom, usage } from './quotas.js';
import { toTenant } from './rows.js';
import { UnknownCursor, type Tenants } from './types.js';

/** Only what is limited is stored. */
const toLimits = (quotas: Partial<Quotas>) =>
  json(Object.fromEntries(Object.entries(quotas).filter(([, limit]) => limit !== null)));

export function tenants(db: Client): Tenants {
  return {
    create({ name, quotas = {} }, once) {
      return db.$transaction(async (tx) => {
        const data = { id: newId('ten'), name, limits: toLimits(quotas) };
        return answerOnce(tx, once, toTenant(await tx.tenant.create({ data })));
      });
    },
    async get(id) {
      const row = await db.tenant.findUnique({ where: { id } });
      return row && toTenant(row);
    },
    async list({ after, ...options } = {}) {
      if (after !== undefined && (await db.tenant.count({ where: { id: after } })) === 0)
        throw new UnknownCursor();
      const taken = take(options);
      const where = after === undefined ? {} : { id: { lt: after } };
      const rows = await db.tenant.findMany({ where, orderBy: { id: 'desc' }, take: taken });
      return pageOf(rows, taken, (row) => row.id, toTenant);
    },
    update(id, { name, quotas, disabled }) {
      return db.$transaction(async (tx) => {
        await tx.$queryRaw`SELECT 1 FROM tenants WHERE id = ${id} FOR UPDATE`;
        const row = await tx.tenant.findUnique({ where: { id } });
        if (!row) return null;
        const limits = quotas && { limits: toLimits({ ...(row.limits as Partial<Quotas>), ...quotas }) };
        const disabledAt = disabled ? (row.disabledAt ?? new Date()) : null;
        const data = {
          ...limits,
          ...(name === undefined ? {} : { name }),
          ...(disabled === undefined ? {} : { disabledAt }),
        };
        return toTenant(await tx.tenant.update({ where: { id }, data }));
      });
    },
    quotas: (tenant) => quotasOf(db, tenant),
    usage: (tenant) => usage(db, tenant),
    requireRoom: (tenant, wanted) => db.$transaction((tx) => requireRoom(tx, tenant, wanted)),
  };
}
