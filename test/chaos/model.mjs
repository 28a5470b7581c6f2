/**
 * The client's side: it submits jobs as a careful user does, sending a request again under its Idempotency-Key until it
 * is answered, and remembers what the service has promised.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createHash } from 'node:crypto';
import { deadline, patience } from './clock.mjs';

/** A request that is not answered for good within so many milliseconds is a broken promise. */
const PATIENCE = 60_000;
const TERMINAL = new Set(['succeeded', 'failed', 'cancelled']);

export class Model {
  #stack;
  requests;
  #turn = 0;
  /** By Idempotency-Key: the dataset that an upload became, or null. */
  uploads = new Map();
  /** By Idempotency-Key: `{ key, recipe, id }`, and what a user has `asked` of it. */
  jobs = new Map();
  violations = [];
  replays = 0;

  /** `requests`: bodies of jobs; equal ones must give equal bytes. */
  constructor(stack, requests) {
    this.#stack = stack;
    this.requests = requests;
  }
  violate(text) {
    this.violations.push(text);
    console.log(`VIOLATION ${text}`);
  }

  /** One request to one of the API servers in turn, or to `url`; null when it was not answered. */
  async ask(method, path, { body, headers = {}, url, timeoutMs = 10_000 } = {}) {
    const base = url ?? this.#stack.urls[this.#turn++ % this.#stack.urls.length];
    try {
      const response = await fetch(base + path, {
        method,
        headers: {
          authorization: `Bearer ${this.#stack.key}`,
          ...(body && { 'content-type': 'application/json' }),
          ...headers,
        },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(timeoutMs),
      });
      const bytes = Buffer.from(await response.arrayBuffer());
      return { status: response.status, headers: response.headers, bytes };
    } catch {
      return null;
    }
  }
  /** GET until it is answered with 200; its JSON. */
  async get(path) {
    let last;
    for (const late = deadline(PATIENCE); !late(); await sleep(200)) {
      const answer = await this.ask('GET', path);
      if (answer?.status === 200) return JSON.parse(answer.bytes.toString());
      last = answer;
      if (answer?.status === 404) break;
    }
    throw new Error(
      `GET ${path} is answered ${last?.status ?? 'not at all'}: ${last?.bytes.toString().slice(0, 300)}`,
    );
  }

  /** A request until it is answered as it should be: with one of these statuses; null, and a violation, when it never is. */
  async insist(method, path, statuses, { retry = [], patience = PATIENCE, ...options } = {}) {
    let last;
    for (const late = deadline(patience); !late(); await sleep(150)) {
      last = await this.ask(method, path, options);
      if (statuses.includes(last?.status)) return last;
      // Not answered, too many, or a server down: as any client, later once more. Others are refusals.
      const again = last === null || [429, 500, 503, ...retry].includes(last.status) || isInFlight(last);
      if (!again) break;
    }
    this.violate(
      `${method} ${path} is answered ${last?.status ?? 'not at all'}: ${last?.bytes.toString().slice(0, 300)}`,
    );
    return null;
  }

  /** A new job; resolves when it is promised. `url`: the server that is asked first. */
  async submit(recipe = this.jobs.size % this.requests.length, url) {
    const key = `chaos-${this.jobs.size + 1}`;
    this.jobs.set(key, { key, recipe, id: null, done: false });
    await this.#post(key, url);
    return this.jobs.get(key);
  }
  /** Sends the request of a job that may be promised already once more: it must be the same job. */
  async replay(strike, url) {
    const keys = [...this.jobs.keys()];
    this.replays += 1;
    await this.#post(keys[Math.floor(strike * keys.length)], url);
  }
  async #post(key, firstUrl) {
    const job = this.jobs.get(key);
    const options = { body: this.requests[job.recipe], headers: { 'idempotency-key': key }, url: firstUrl };
    const first = await this.ask('POST', '/v1/jobs', options);
    const answer =
      first?.status === 202
        ? first
        : await this.insist('POST', '/v1/jobs', [202], { ...options, url: undefined });
    if (!answer) return;
    const { id } = JSON.parse(answer.bytes.toString());
    if (job.id !== null && job.id !== id) this.violate(`${key} was answered with ${job.id}, then with ${id}`);
    job.id = id;
  }

  /** Jobs that are promised and not known to have ended. */
  async unfinished() {
    const answer = await this.ask('GET', '/v1/jobs?limit=100');
    const listed = answer?.status === 200 ? JSON.parse(answer.bytes.toString()).data : [];
    const found = new Map(listed.map((job) => [job.id, job]));
    for (const job of this.jobs.values()) {
      if (job.done || !found.has(job.id)) continue;
      job.last = found.get(job.id);
      job.done = TERMINAL.has(job.last.status);
    }
    return [...this.jobs.values()].filter(({ done }) => !done);
  }
  async allEnded(limitMs) {
    for (const late = patience(limitMs); ; await sleep(1000)) {
      const open = await this.unfinished();
      if (open.length === 0) return;
      if (!late()) continue;
      for (const { key, id, last } of open)
        this.violate(`${key} ${id} has not ended: ${last?.status}, ${last?.stage}, attempt ${last?.attempt}`);
      return;
    }
  }
}

const isInFlight = ({ status, bytes }) => status === 409 && bytes.includes('idempotency-in-flight');
export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
