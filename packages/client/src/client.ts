import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type {
  AdaptRequest,
  Candidate,
  Dataset,
  DatasetFormat,
  DownloadFormat,
  DryRun,
  Job,
  JobAction,
  JobEvent,
  Model,
  Prediction,
  PretrainRequest,
  Supernet,
  Upload,
} from '@ntaa/contracts';
import { saveVerified, type Downloaded } from './download.js';
import { jobEvents, type EventOptions } from './events.js';
import { Http, type Page, type PageOptions, type Query } from './http.js';
import { multipart, type Part } from './multipart.js';
import { sendParts } from './parts.js';

export interface ClientOptions {
  /** Address of the service, without `/v1`: `http://127.0.0.1:3000`. */
  baseUrl: string;
  /** Bearer key; not needed for `health`. */
  apiKey?: string;
}
export interface UploadOptions {
  name?: string;
  /** Detected from the archive when absent. */
  format?: DatasetFormat;
  filename?: string;
  signal?: AbortSignal;
}
export interface Health {
  status: string;
  [check: string]: unknown;
}

const id = encodeURIComponent;
const query = (options: PageOptions): Query => ({ ...options });

/** The service's resources as methods. Every refusal is an ApiError with the service's code, detail and errors. */
export class NtaaClient {
  readonly #http: Http;

  constructor(options: ClientOptions) {
    this.#http = new Http(options.baseUrl, options.apiKey);
  }

  /** Liveness; `ready` also asks what the service depends on. */
  health(signal?: AbortSignal): Promise<Health> {
    return this.#http.json('GET', '/healthz', { signal });
  }
  ready(signal?: AbortSignal): Promise<Health> {
    return this.#http.json('GET', '/readyz', { signal });
  }

  /** Uploads an archive (a path, or a stream with `filename`) as a new dataset; it is then being validated. */
  uploadDataset(file: string | AsyncIterable<Uint8Array>, options: UploadOptions = {}): Promise<Dataset> {
    const filename = options.filename ?? (typeof file === 'string' ? basename(file) : 'dataset.zip');
    // Fields first: the service knows them when the file's bytes begin to arrive.
    const parts: Part[] = [];
    if (options.name !== undefined) parts.push({ name: 'name', value: options.name });
    if (options.format !== undefined) parts.push({ name: 'format', value: options.format });
    parts.push({ name: 'file', filename, value: typeof file === 'string' ? { path: file } : file });
    const { body, contentType } = multipart(parts);
    return this.#http.json('POST', '/v1/datasets', {
      headers: { 'content-type': contentType },
      body,
      signal: options.signal,
    });
  }
  /** The same in parts of some 32 MB, each of which is sent again when it breaks: for large files and poor networks. */
  async uploadDatasetInParts(
    path: string,
    { name, format, filename, signal }: UploadOptions = {},
  ): Promise<Dataset> {
    const { size } = await stat(path);
    const upload = await this.#http.send<Upload>(
      'POST',
      '/v1/uploads',
      { size, filename: filename ?? basename(path) },
      { signal },
    );
    await sendParts(path, upload, signal);
    return this.#http.send('POST', '/v1/datasets', { upload: upload.id, name, format }, { signal });
  }
  dataset(dataset: string): Promise<Dataset> {
    return this.#http.json('GET', `/v1/datasets/${id(dataset)}`);
  }
  datasets(page: PageOptions = {}): Promise<Page<Dataset>> {
    return this.#http.json('GET', '/v1/datasets', { query: query(page) });
  }
  async deleteDataset(dataset: string): Promise<void> {
    await this.#http.request('DELETE', `/v1/datasets/${id(dataset)}`);
  }
  /** Waits until a dataset is `ready` or `invalid`. */
  async datasetSettled(
    dataset: string,
    options: { signal?: AbortSignal; every?: number } = {},
  ): Promise<Dataset> {
    for (;;) {
      const row = await this.dataset(dataset);
      if (row.status !== 'validating') return row;
      await sleep(options.every ?? 250, undefined, options.signal ? { signal: options.signal } : {});
    }
  }

  supernets(page: PageOptions = {}): Promise<Page<Supernet>> {
    return this.#http.json('GET', '/v1/supernets', { query: query(page) });
  }
  supernet(supernet: string): Promise<Supernet> {
    return this.#http.json('GET', `/v1/supernets/${id(supernet)}`);
  }

  /** Starts a job. The same `idempotencyKey` and body return the same job. */
  createJob(request: AdaptRequest | PretrainRequest, idempotencyKey?: string): Promise<Job> {
    const headers = idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey };
    return this.#http.send('POST', '/v1/jobs', request, { headers });
  }
  /** Validates a job and estimates it without starting it. */
  dryRun(request: AdaptRequest | PretrainRequest): Promise<DryRun> {
    return this.#http.send('POST', '/v1/jobs', request, { query: { dry_run: true } });
  }
  job(job: string): Promise<Job> {
    return this.#http.json('GET', `/v1/jobs/${id(job)}`);
  }
  jobs(page: PageOptions = {}): Promise<Page<Job>> {
    return this.#http.json('GET', '/v1/jobs', { query: query(page) });
  }
  act(job: string, action: JobAction): Promise<Job> {
    return this.#http.json('POST', `/v1/jobs/${id(job)}/${action}`);
  }
  /** Server-sent events with reconnection; ends after the event `done`. */
  events(job: string, options: EventOptions = {}): AsyncGenerator<JobEvent> {
    return jobEvents(this.#http, job, options);
  }
  /** Every candidate evaluated so far, all pages. */
  async candidates(job: string, options: { pareto?: boolean } = {}): Promise<Candidate[]> {
    const all: Candidate[] = [];
    for (let after: string | undefined; ;) {
      const page = await this.#http.json<Page<Candidate>>('GET', `/v1/jobs/${id(job)}/candidates`, {
        query: { limit: 100, after, pareto: options.pareto },
      });
      all.push(...page.data);
      if (!page.has_more || page.next_cursor === null) return all;
      after = page.next_cursor;
    }
  }

  model(model: string): Promise<Model> {
    return this.#http.json('GET', `/v1/models/${id(model)}`);
  }
  models(page: PageOptions = {}): Promise<Page<Model>> {
    return this.#http.json('GET', '/v1/models', { query: query(page) });
  }
  /** Downloads a model to a file, verified against the service's sha256. */
  async download(model: string, path: string, format: DownloadFormat = 'bundle'): Promise<Downloaded> {
    const response = await this.#http.request('GET', `/v1/models/${id(model)}/download`, {
      query: { format },
      // A compressed transfer would make Content-Length and ETag speak of other bytes than those that arrive.
      headers: { accept: '*/*', 'accept-encoding': 'identity' },
    });
    return saveVerified(response, path);
  }
  /** Predictions for image files (paths, or bytes with a name), in the given order. */
  async predict(
    model: string,
    images: readonly (string | { filename: string; bytes: Uint8Array })[],
  ): Promise<Prediction[]> {
    const { body, contentType } = multipart(
      images.map((image) =>
        typeof image === 'string'
          ? { name: 'file', filename: basename(image), value: { path: image } }
          : { name: 'file', filename: image.filename, value: image.bytes },
      ),
    );
    const answer = await this.#http.json<{ data: Prediction[] }>('POST', `/v1/models/${id(model)}/predict`, {
      headers: { 'content-type': contentType },
      body,
    });
    return answer.data;
  }
}
