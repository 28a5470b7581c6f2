import { toApiError } from './errors.js';

export interface Page<T> {
  object: 'list';
  data: T[];
  has_more: boolean;
  next_cursor: string | null;
}
/** `limit` 1..100; `after`: `next_cursor` of the page before. */
export interface PageOptions {
  limit?: number;
  after?: string;
  status?: string;
}

export type Query = Record<string, string | number | boolean | undefined>;
export interface RequestOptions {
  query?: Query;
  headers?: Record<string, string>;
  body?: string | AsyncIterable<Uint8Array>;
  signal?: AbortSignal | undefined;
}

/** One service address and key; every request of the client goes through here. */
export class Http {
  readonly #base: string;
  readonly #key: string | undefined;

  constructor(base: string, key: string | undefined) {
    this.#base = base.replace(/\/+$/, '');
    this.#key = key;
  }

  /** A response with a 2xx status; anything else is thrown as an ApiError. */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
    const url = new URL(this.#base + path);
    for (const [name, value] of Object.entries(options.query ?? {}))
      if (value !== undefined) url.searchParams.set(name, String(value));
    const headers: Record<string, string> = { accept: 'application/json', ...options.headers };
    if (this.#key !== undefined) headers['authorization'] = `Bearer ${this.#key}`;
    const init: RequestInit & { duplex?: 'half' } = { method, headers };
    if (options.body !== undefined) {
      init.body = options.body as NonNullable<RequestInit['body']>;
      init.duplex = 'half';
    }
    if (options.signal) init.signal = options.signal;
    const response = await fetch(url, init);
    if (!response.ok) throw await toApiError(response);
    return response;
  }

  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.request(method, path, options);
    return (await response.json()) as T;
  }

  /** Sends a JSON body. */
  send<T>(method: string, path: string, body: unknown, options: RequestOptions = {}): Promise<T> {
    return this.json<T>(method, path, {
      ...options,
      headers: { 'content-type': 'application/json', ...options.headers },
      body: JSON.stringify(body),
    });
  }
}
