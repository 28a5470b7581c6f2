// The package names a declaration file that it does not contain. This is what we use of it.
declare module 'onnxruntime-node' {
  export class Tensor {
    constructor(type: 'float32', data: Float32Array, dims: readonly number[]);
    readonly data: Float32Array;
    readonly dims: readonly number[];
  }
  export interface InferenceSession {
    readonly outputNames: readonly string[];
    run(feeds: Record<string, Tensor>, fetches?: readonly string[]): Promise<Record<string, Tensor>>;
    release(): Promise<void>;
  }
  export const InferenceSession: {
    create(
      model: Uint8Array | string,
      options?: {
        intraOpNumThreads?: number;
        interOpNumThreads?: number;
        enableCpuMemArena?: boolean;
        enableMemPattern?: boolean;
        /** 0 verbose to 4 fatal. */
        logSeverityLevel?: 0 | 1 | 2 | 3 | 4;
        executionMode?: 'sequential' | 'parallel';
      },
    ): Promise<InferenceSession>;
  };
}
