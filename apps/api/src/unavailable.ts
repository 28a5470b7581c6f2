/** Is this error the lost connection to a service we depend on (rather than a mistake of ours)? */

/** Node's socket errors, Postgres' shutdown and connection classes, Prisma's and the AWS SDK's names for the same. */
const CODES = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH'],
  ...['57P01', '57P02', '57P03', '53300', '55P03', '08000', '08001', '08003', '08004', '08006'],
  ...['P1001', 'P1002', 'P1008', 'P1011', 'P1017', 'P2024', 'P2028'],
]);
const NAMES = new Set(['PrismaClientInitializationError', 'TimeoutError', 'MaxRetriesPerRequestError']);
const MESSAGE =
  /connection (terminated|closed|refused|timeout|ended)|server has closed the connection|can't reach database|connection is closed|timeout exceeded when trying to connect|cannot use a pool after calling end/i;

export function isUnavailable(error: unknown): boolean {
  for (let e: unknown = error, depth = 0; e instanceof Object && depth < 6; depth++) {
    const { code, name, message, cause } = e as Record<string, unknown>;
    if (typeof code === 'string' && CODES.has(code)) return true;
    if (typeof name === 'string' && NAMES.has(name)) return true;
    if (typeof message === 'string' && MESSAGE.test(message)) return true;
    if (e instanceof AggregateError && e.errors.some(isUnavailable)) return true;
    e = cause ?? (e as { meta?: { driverAdapterError?: unknown } }).meta?.driverAdapterError;
  }
  return false;
}
