/**
 * Spans for a tracing system. A trace goes through several processes, and is kept in the database between them: what a span is
 * part of is said by a `traceparent` (W3C Trace Context), not by what happens to run just now.
 */
export type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

export interface SpanOptions {
  /** What asks for it: a request, an entry of the queue, or (default) this process itself. */
  readonly kind?: 'server' | 'consumer';
  /** `traceparent` of what it is part of; null, or not well-formed: a trace of its own. */
  readonly parent: string | null;
  /** Never what users call things, or what is in their requests: ids and names of ours only. */
  readonly attributes?: Attributes;
}

export interface Span {
  readonly traceId: string;
  /** For what is part of it, here or in another process. */
  readonly traceparent: string;
  set(attributes: Attributes): void;
  /** `error`: what kind of error it ended with. */
  end(error?: string): void;
}

export interface Tracing {
  start(name: string, options: SpanOptions): Span;
  /** Sends what was not sent yet, if that takes no longer than two seconds. Never rejects. */
  close(): Promise<void>;
}

/** How spans are encoded. */
export type TraceFormat = 'http/protobuf' | 'http/json';

/**
 * Exports the spans of this process as the standard OTEL_* variables say. null: to nobody, and nothing of OpenTelemetry is loaded.
 * `warn` hears of trouble once a minute at most.
 */
export async function openTracing(
  format: TraceFormat | null,
  service: { readonly name: string; readonly instance: string },
  warn: (message: string) => void,
): Promise<Tracing | null> {
  return format === null ? null : (await import('./sdk.js')).startSdk(format, service, warn);
}
