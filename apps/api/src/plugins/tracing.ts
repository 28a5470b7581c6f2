/** A span for every request, for those who trace the service; its names are OpenTelemetry's for HTTP servers. */
import type { App, Deps } from '../types.js';

/** Asked every few seconds, by machines: of no interest to anybody. */
const PROBES = new Set(['/healthz', '/readyz', '/metrics']);

export function useTracing(app: App, { tracing }: Deps): void {
  if (!tracing) return;
  app.decorateRequest('span');
  app.addHook('onRequest', async (request, reply) => {
    const { method } = request;
    // The route, not the address: that may hold names and signatures.
    const route = request.routeOptions.url;
    if (route !== undefined && PROBES.has(route)) return;
    const { traceparent } = request.headers;
    const span = tracing.start(route === undefined ? method : `${method} ${route}`, {
      kind: 'server',
      parent: typeof traceparent === 'string' ? traceparent : null,
      attributes: { 'http.request.method': method, 'http.route': route, 'url.scheme': request.protocol },
    });
    request.span = span;
    request.log = reply.log = request.log.child({ trace_id: span.traceId });
    // However it ends: callers that hang up are not told to onResponse.
    reply.raw.once('close', () => {
      const status = reply.raw.headersSent ? reply.raw.statusCode : undefined;
      span.set({ 'http.response.status_code': status });
      span.end(status !== undefined && status >= 500 ? String(status) : undefined);
    });
  });
}
