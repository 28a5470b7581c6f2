export interface EmbeddedPostgres {
  /** postgres:// URL of the service's own database, password included. */
  readonly url: string;
  /** Shuts the server down (fast: open transactions are rolled back) and resolves when its process is gone. */
  stop(): Promise<void>;
}
export async function startEmbeddedPostgres(options: {
  dataDir: string;
  log?: (line: string) => void;
}): Promise<EmbeddedPostgres> {
  throw new Error(`not there yet ${options.dataDir}`);
}
