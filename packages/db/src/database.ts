import type { Database, DatabaseOptions } from './types.js';

/** Connects (retrying for a few seconds), applies missing migrations, and is ready when it resolves. */
export async function openDatabase(url: string, options: DatabaseOptions = {}): Promise<Database> {
  throw new Error(`not there yet ${url} ${options.connections}`);
}
