/** Typed client of the HTTP API: nothing but fetch and the shapes of @ntaa/contracts. */
export { NtaaClient, type ClientOptions, type UploadOptions, type Health } from './client.js';
export { ApiError } from './errors.js';
export type { Page, PageOptions } from './http.js';
export type { EventOptions } from './events.js';
export type { Downloaded } from './download.js';
