// The rooms of docs/architecture.md and what each may import. Imports run downwards only, through the front door.
const rooms = {
  'packages/contracts': [],
  'packages/random': [],
  'packages/config': ['contracts'],
  'packages/nas': ['contracts', 'random'],
  'packages/engine': ['random'],
  'packages/supernet': ['contracts', 'random', 'nas', 'engine'],
  'packages/data': ['contracts', 'random'],
  'packages/tasks': ['contracts', 'random', 'nas', 'engine', 'supernet', 'data'],
  'packages/adaptation': ['contracts', 'random', 'nas', 'engine', 'supernet', 'data', 'tasks'],
  'packages/export': ['contracts', 'nas', 'engine', 'supernet'],
  'packages/db': ['contracts'],
  'packages/queue': ['contracts'],
  'packages/storage': ['contracts'],
  'packages/client': ['contracts'],
  'packages/tracing': [],
  'apps/api': ['contracts', 'config', 'nas', 'data', 'db', 'queue', 'storage', 'tracing'],
  'apps/worker': [
    ...[
      'contracts',
      'config',
      'random',
      'nas',
      'engine',
      'supernet',
      'data',
      'tasks',
      'adaptation',
      'export',
    ],
    ...['db', 'queue', 'storage', 'tracing'],
  ],
  'apps/cli': ['contracts', 'config', 'nas', 'db', 'client', 'data'],
};

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'no-circular',
      comment: 'Modules that need each other to run; types may refer to each other',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'through-the-front-door',
      comment: 'A package is imported by its name, through its public entry',
      severity: 'error',
      from: { path: '^(packages|apps)/([^/]+)/', pathNot: '\\.test\\.ts$' },
      to: { path: '^(packages|apps)/', pathNot: ['^$1/$2/', '^packages/[^/]+/src/index\\.ts$'] },
    },
    ...Object.entries(rooms).map(([room, allowed]) => ({
      name: `room-${room.split('/')[1]}`,
      severity: 'error',
      from: { path: `^${room}/`, pathNot: '\\.test\\.ts$' },
      to: {
        path: '^(packages|apps)/',
        pathNot: [`^${room}/`, ...allowed.map((name) => `^packages/${name}/`)],
      },
    })),
    {
      name: 'only-db-touches-prisma',
      severity: 'error',
      from: { pathNot: '^packages/db/' },
      to: { path: 'node_modules/@prisma/' },
    },
    {
      name: 'only-tracing-loads-opentelemetry',
      comment: 'And it does so only where spans are exported',
      severity: 'error',
      from: { path: '^(packages|apps)/', pathNot: '^packages/tracing/src/sdk\\.ts$' },
      to: { path: '@opentelemetry/' },
    },
    {
      name: 'tracing-is-optional',
      comment: 'The SDK is loaded where spans are exported, and nowhere else',
      severity: 'error',
      from: { pathNot: '\\.test\\.ts$' },
      to: { path: '^packages/tracing/src/sdk\\.ts$', dynamic: false, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'tensors-stay-out-of-the-api',
      severity: 'error',
      from: { path: '^apps/(api|cli)/' },
      to: { path: 'node_modules/@tensorflow/' },
    },
    {
      name: 'unresolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, pathNot: '@tensorflow/tfjs-node' },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)(lib|generated)/|packages/engine/kernels/' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['source', 'import', 'node', 'default'],
    },
  },
};
