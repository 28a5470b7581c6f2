import { execFileSync } from 'node:child_process';

/** Tests that start real processes run what users run: the built packages. */
export default function setup(): void {
  execFileSync(process.execPath, ['scripts/build.mjs'], { stdio: 'inherit' });
}
