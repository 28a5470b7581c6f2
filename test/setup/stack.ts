/** A fresh database for the caller. */
export interface TestStack {
  readonly databaseUrl: string;
  close(): Promise<void>;
}
/** Starts (once a process) an embedded Postgres in a temporary folder and makes an empty database on it. */
export async function startStack(): Promise<TestStack> {
  throw new Error('not there yet');
}
