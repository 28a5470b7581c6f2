export { parseConfig, ConfigError, ENGINES, LOG_LEVELS } from './config.js';
export type { Config, S3Config, EngineChoice, LogLevel } from './config.js';
export { makeDataFolder, unusableFolder } from './data-folder.js';
export { withoutSecrets } from './secrets.js';
export { databaseOf, openDependency, queueOf, storageOf, type Dependency } from './dependency.js';
export { visibleGpus } from './gpus.js';
export { KILL_POINTS, killPoint, type KillPoint } from './kill-point.js';
export {
  cannotListen,
  failStart,
  LAUNCHED,
  messageFor,
  processConfig,
  StartError,
  tellLauncher,
  whenOrphaned,
  type LauncherMessage,
  type RunningEngine,
} from './start.js';
