/** Security headers, rate limit, and time limits against clients that send slowly. */
import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import { ProblemError } from '@ntaa/contracts';
import type { App, Limits } from '../types.js';

/** Registers what must be there before authentication. */
export async function useProtection(app: App, limits: Limits): Promise<void> {
  await app.register(helmet, {
    // Plain http on a private host is a supported deployment: TLS, and HSTS with it, is the proxy's.
    strictTransportSecurity: false,
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
    },
  });
  // What an API key may see is nobody else's, caches included; routes that know better say so.
  app.addHook('onRequest', async ({ url }, reply) => {
    if (url.startsWith('/v1/')) void reply.header('cache-control', 'no-store');
  });
  await app.register(rateLimit, { global: false });
  limitBodyTime(app, limits.bodyMs);
}

/** Registers the rate limit of each API key: after authentication, so that nobody can spend another's. */
export function useKeyRateLimit(app: App, limits: Limits): void {
  const check = app.createRateLimit({
    max: ({ principal }) => Math.min(limits.requestsPerSecond, principal.requestsPerSecond ?? Infinity),
    timeWindow: 1000,
    keyGenerator: (request) => request.principal.id,
  });
  app.addHook('onRequest', async (request, reply) => {
    if (!request.routeOptions.config.scope) return;
    const limit = await check(request);
    if (limit.isAllowed) return;
    void reply
      .header('ratelimit-limit', String(limit.max))
      .header('ratelimit-remaining', String(limit.remaining));
    if (!limit.isExceeded) return;
    void reply.header('retry-after', String(limit.ttlInSeconds));
    throw new ProblemError(
      'too-many-requests',
      `An API key may make ${limit.max} requests a second. Wait and repeat.`,
    );
  });
}

/** A JSON body has to arrive in time; an upload may take as long as it moves (the idle timeout watches it). */
function limitBodyTime(app: App, milliseconds: number): void {
  const timers = new WeakMap<object, NodeJS.Timeout>();
  app.addHook('preParsing', async (request) => {
    if (!request.headers['content-type']?.startsWith('multipart/'))
      timers.set(request, setTimeout(() => request.raw.destroy(), milliseconds).unref());
  });
  const done = (request: object) => clearTimeout(timers.get(request));
  app.addHook('preValidation', async (request) => done(request));
  app.addHook('onResponse', async (request) => done(request));
  app.addHook('onRequestAbort', async (request) => done(request));
}
