// Process entry of the command line.
import { parseArgs } from 'node:util';
import { messageFor } from '@ntaa/config';
import { demo } from './demo.js';
import { Interrupt } from './interrupt.js';
import { up } from './up.js';

const HELP = `ntaa: adapts a pretrained image-recognition network, architecture and weights together, to your images

  up      starts the service on this machine: API, database, queue, workers   (npm start)
  demo    shows the main job end to end on real images, in a few minutes      (npm run demo)
  help    shows this

Settings are environment variables: PORT, HOST, NTAA_API_KEY, NTAA_DATA_DIR, NTAA_WORKERS, NTAA_ENGINE,
DATABASE_URL, REDIS_URL, S3_BUCKET and others; see README.md.
`;

const COMMANDS: Record<string, (env: NodeJS.ProcessEnv) => Promise<void>> = {
  up,
  demo,
  help: async () => void process.stdout.write(HELP),
};

async function main(): Promise<number> {
  let name: string;
  try {
    const { positionals, values } = parseArgs({
      allowPositionals: true,
      options: { help: { type: 'boolean', short: 'h' } },
    });
    if (positionals.length > 1) throw new TypeError(`Too many arguments: ${positionals.join(' ')}`);
    name = values.help ? 'help' : (positionals[0] ?? 'help');
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}`);
    return 1;
  }
  const command = COMMANDS[name];
  if (!command) {
    process.stderr.write(`There is no command ${name}.\n\n${HELP}`);
    return 1;
  }
  try {
    await command(process.env);
    return 0;
  } catch (error) {
    if (error instanceof Interrupt) return 130;
    process.stderr.write(`\n${messageFor(error)}\n`);
    return 1;
  }
}

process.exit(await main());
