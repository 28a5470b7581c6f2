import { spawnSync } from 'node:child_process';

/** The driver answers within this time, ms, or is taken for absent. */
const PATIENCE = 10_000;

/**
 * The NVIDIA GPUs that processes may use, by the names that CUDA_VISIBLE_DEVICES takes: those it lists, or where it is not
 * set all that the driver has. Empty without a driver. (CUDA, too, ends the list at the first name it does not know: -1.)
 */
export function visibleGpus(env: NodeJS.ProcessEnv): string[] {
  const given = env['CUDA_VISIBLE_DEVICES'];
  if (given !== undefined) {
    const names = given.split(',').map((name) => name.trim());
    const end = names.findIndex((name) => name === '' || name === '-1');
    return end < 0 ? names : names.slice(0, end);
  }
  const ask = ['--query-gpu=uuid', '--format=csv,noheader'];
  const { status, stdout } = spawnSync('nvidia-smi', ask, { env, encoding: 'utf8', timeout: PATIENCE });
  return status === 0
    ? stdout
        .split('\n')
        .filter((line) => line.trim() !== '')
        .map((line) => line.trim())
    : [];
}
