import { setTimeout as sleep } from 'node:timers/promises';
import type { JobEvent } from '@ntaa/contracts';
import { ApiError } from './errors.js';
import type { Http } from './http.js';

export interface EventOptions {
  /** Number of the last event already seen; 0, the default, replays everything. */
  after?: number;
  signal?: AbortSignal;
  /** Longest pause between reconnections, ms; default 5000. */
  maxPause?: number;
}

interface SseMessage {
  id: string | undefined;
  data: string;
}

/** Splits a stream of server-sent events into messages (WHATWG rules; comments and unknown fields are dropped). */
export async function* parseSse(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<SseMessage> {
  const decoder = new TextDecoder();
  let rest = '';
  let id: string | undefined;
  let data: string[] = [];
  for await (const chunk of chunks) {
    rest += decoder.decode(chunk, { stream: true });
    // A CR at the very end may be half of a CRLF: it waits for the next chunk.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { id, data: data.join('\n') };
        data = [];
        continue;
      }
      const colon = line.indexOf(':');
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'data') data.push(value);
      else if (field === 'id') id = value;
    }
  }
}

/**
 * A job's events, in order and each once, until its last one (`done`). A broken connection is taken up again after
 * the last event seen; a refusal by the service (4xx other than 429) is thrown.
 */
export async function* jobEvents(
  http: Http,
  job: string,
  options: EventOptions = {},
): AsyncGenerator<JobEvent> {
  const { signal, maxPause = 5000 } = options;
  let last = options.after ?? 0;
  let pause = 100;
  for (;;) {
    try {
      const response = await http.request('GET', `/v1/jobs/${encodeURIComponent(job)}/events`, {
        headers: { accept: 'text/event-stream', ...(last > 0 && { 'last-event-id': String(last) }) },
        signal,
      });
      // Nothing follows the last event seen: the job has ended.
      if (response.status === 204) return;
      for await (const message of parseSse(response.body as AsyncIterable<Uint8Array>)) {
        const event = JSON.parse(message.data) as JobEvent;
        if (event.seq <= last) continue;
        last = event.seq;
        pause = 100;
        yield event;
        if (event.type === 'done') return;
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof ApiError && !error.transient) throw error;
      if (!(error instanceof ApiError || isNetworkError(error))) throw error;
      if (error instanceof ApiError && error.retryAfter !== undefined) pause = error.retryAfter * 1000;
    }
    await sleep(Math.min(pause, maxPause), undefined, signal ? { signal } : {});
    pause = Math.min(pause * 2, maxPause);
  }
}

/** fetch reports a refused or broken connection as a TypeError whose cause has the socket's code. */
const isNetworkError = (error: unknown): boolean =>
  error instanceof TypeError && /fetch failed|terminated|network/i.test(error.message);
