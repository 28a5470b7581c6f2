export { parseConfig, ConfigError, ENGINES, LOG_LEVELS } from './config.js';
export type { Config, S3Config, EngineChoice, LogLevel } from './config.js';
