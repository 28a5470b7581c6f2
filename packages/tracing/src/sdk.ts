/** Spans by OpenTelemetry's SDK. Loaded only where spans are exported. */
import {
  diag,
  DiagLogLevel,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Span as OtelSpan,
} from '@opentelemetry/api';
import { parseTraceParent, setGlobalErrorHandler } from '@opentelemetry/core';
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { Attributes, Span, SpanOptions, TraceFormat, Tracing } from './index.js';

/** A collector that does not answer must not keep a process from ending, ms. */
const FLUSH_MS = 2000;
/** Between two warnings, ms: a collector that is away is news once. */
const QUIET_MS = 60_000;

export async function startSdk(
  format: TraceFormat,
  service: { readonly name: string; readonly instance: string },
  warn: (message: string) => void,
): Promise<Tracing> {
  const complain = seldom(warn);
  // Only what is said, not what is said it of: answers of the collector and headers may come with it.
  const ignore = (): void => undefined;
  const logger = { error: complain, warn: complain, info: ignore, debug: ignore, verbose: ignore };
  diag.setLogger(logger, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  setGlobalErrorHandler((error) => complain(reasonOf(error)));
  const { OTLPTraceExporter } =
    format === 'http/json'
      ? await import('@opentelemetry/exporter-trace-otlp-http')
      : await import('@opentelemetry/exporter-trace-otlp-proto');
  const own = resourceFromAttributes({
    'service.name': service.name,
    'service.namespace': 'ntaa',
    'service.instance.id': service.instance,
  });
  const provider = new BasicTracerProvider({
    resource: defaultResource()
      .merge(own)
      .merge(detectResources({ detectors: [envDetector] })),
    // Keeps so many spans and no more, and sends them from time to time: whoever ends one does not wait.
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  const tracer = provider.getTracer('ntaa');
  return {
    start: (name, { kind, parent, attributes = {} }) => {
      const within = parent === null ? null : parseTraceParent(parent);
      const context = within
        ? trace.setSpanContext(ROOT_CONTEXT, { ...within, isRemote: true })
        : ROOT_CONTEXT;
      return new SdkSpan(tracer.startSpan(name, { kind: KINDS[kind ?? 'internal'], attributes }, context));
    },
    async close() {
      let timer: NodeJS.Timeout | undefined;
      const limit = new Promise<void>((resolve) => (timer = setTimeout(resolve, FLUSH_MS)));
      const flushed = provider.shutdown().catch((error: unknown) => complain(reasonOf(error)));
      await Promise.race([flushed, limit]);
      clearTimeout(timer);
    },
  };
}

const KINDS: Readonly<Record<NonNullable<SpanOptions['kind']> | 'internal', SpanKind>> = {
  server: SpanKind.SERVER,
  consumer: SpanKind.CONSUMER,
  internal: SpanKind.INTERNAL,
};

class SdkSpan implements Span {
  readonly #span: OtelSpan;
  readonly traceId: string;
  readonly traceparent: string;

  constructor(span: OtelSpan) {
    const { traceId, spanId, traceFlags } = span.spanContext();
    this.#span = span;
    this.traceId = traceId;
    // Whether it is sampled is decided once for a whole trace, where it begins.
    this.traceparent = `00-${traceId}-${spanId}-${traceFlags & TraceFlags.SAMPLED ? '01' : '00'}`;
  }
  set(attributes: Attributes): void {
    this.#span.setAttributes(attributes);
  }
  end(error?: string): void {
    if (error !== undefined) {
      this.#span.setAttribute('error.type', error);
      this.#span.setStatus({ code: SpanStatusCode.ERROR });
    }
    this.#span.end();
  }
}

function reasonOf(error: unknown): string {
  if (typeof error === 'string') return error;
  // Where a name has several addresses, what failed at each of them is told by its code alone.
  const { message, code } = error as { message?: string; code?: unknown };
  return message || String(code ?? 'unknown');
}

function seldom(warn: (message: string) => void): (reason: string) => void {
  let saidAt = -Infinity;
  let unsaid = 0;
  return (reason) => {
    if (Date.now() - saidAt < QUIET_MS) {
      unsaid += 1;
      return;
    }
    warn(`Tracing: ${reason}${unsaid > 0 ? ` (and ${unsaid} warnings before, since the last one)` : ''}`);
    saidAt = Date.now();
    unsaid = 0;
  };
}
