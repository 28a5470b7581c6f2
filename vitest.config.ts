import { defineConfig } from 'vitest/config';

const ROOMS = ['packages/*/src/**', 'apps/*/src/**', 'test/**'];
/** Real faults, races against the clock and whole experiments: too long to wait for with every change. CI runs them too. */
const LONG = '**/*.long.test.ts';

export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'] } },
  test: {
    globalSetup: ['test/setup/build.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    projects: [
      {
        extends: true,
        test: { name: 'short', include: ROOMS.map((room) => `${room}/*.test.ts`), exclude: [LONG] },
      },
      { extends: true, test: { name: 'long', include: [LONG], exclude: ['**/node_modules/**'] } },
    ],
  },
});
