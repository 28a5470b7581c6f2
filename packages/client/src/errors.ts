import type { Problem, ProblemDetail } from '@ntaa/contracts';

/** The service answered with an error. `message` is its problem document's `detail`. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly errors: readonly ProblemDetail[];
  readonly requestId: string | undefined;
  /** Seconds to wait before the next try, where the service named them (429, 503). */
  readonly retryAfter: number | undefined;

  constructor(status: number, problem: Partial<Problem>, retryAfter?: number) {
    const list = (problem.errors ?? []).map((e) => `${e.pointer}: ${e.detail}`).join('; ');
    const detail = problem.detail ?? problem.title ?? `HTTP ${status}`;
    super(list && !detail.includes(list) ? `${detail} (${list})` : detail);
    this.name = 'ApiError';
    this.status = status;
    this.code = problem.code ?? `http-${status}`;
    this.errors = problem.errors ?? [];
    this.requestId = problem.request_id;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. */
  get transient(): boolean {
    return this.status === 429 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

/** Reads a failed response's problem document; an answer that is none (a proxy's page) still becomes an error. */
export async function toApiError(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  const retryAfter = Number(response.headers.get('retry-after'));
  let problem: Partial<Problem> = {};
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null) problem = body;
  } catch {
    problem = { detail: `HTTP ${response.status} ${response.statusText}: ${text.slice(0, 200)}`.trim() };
  }
  return new ApiError(response.status, problem, retryAfter > 0 ? retryAfter : undefined);
}
