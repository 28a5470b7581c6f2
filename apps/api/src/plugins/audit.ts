/** The audit log: what was asked of the service, by which key, from where, and how it was answered. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { App, Deps } from '../types.js';

/** What changes nothing is not worth a row, unless the route says so (`audit`). */
const CHANGING = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);
/** Refusals that tell of somebody trying doors; others are the caller's slips, and 429 would let anybody fill the table. */
const DOORS = new Set([403, 404]);

export function useAudit(app: App, { db }: Deps): void {
  // Before the answer is sent: whoever has the answer can be found in the log.
  app.addHook('onSend', async (request, reply) => {
    const { principal } = request;
    const { audit, scope } = request.routeOptions.config;
    const status = reply.statusCode;
    if (!principal || !scope || !(audit ?? CHANGING.has(request.method))) return;
    if (status >= 400 && status < 500 && !DOORS.has(status)) return;
    const entry = {
      ...{ tenant: principal.tenant, actor: principal.id, status },
      action: `${request.method} ${request.routeOptions.url}`,
      target: targetOf(request, reply),
      ...{ address: request.ip, requestId: request.id },
    };
    // What has been done cannot be undone for want of a row: the log is the second place.
    await db.audit
      .add(entry)
      .catch((err: unknown) => request.log.error({ err, entry }, 'not in the audit log'));
  });
}

function targetOf(request: FastifyRequest, reply: FastifyReply): string | null {
  const made = reply.getHeader('location');
  if (typeof made === 'string') return made.slice(made.lastIndexOf('/') + 1);
  return (request.params as { id?: string } | undefined)?.id?.slice(0, 200) ?? null;
}
