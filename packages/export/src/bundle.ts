/** Builds and verifies everything a model can be downloaded as. */
import type { FileEntry, Manifest } from '@ntaa/contracts';
import { writeSafetensors, type NamedTensors, type StaticGraph } from '@ntaa/supernet';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { writeZip } from './archive.js';
import { renderCard, type ModelCard } from './card.js';
import { encodeOnnx } from './onnx.js';
import { renderReport } from './report/index.js';
import type { ReportInput } from './report/input.js';
import { safeJson } from './text.js';
import { encodeTfjs } from './tfjs.js';
import { verifyFiles, type VerifyInput } from './verify.js';

export interface BundleInput {
  /** Name of the network's output. */
  output: 'logits' | 'embedding' | 'age';
  /** The network to deploy, batch norm folded. */
  graph: StaticGraph;
  /** Its weights as trained and its batch-norm statistics, for model.safetensors. */
  tensors: NamedTensors;
  manifest: Omit<Manifest, 'schema_version' | 'outputs' | 'files'>;
  card: ModelCard;
  report: ReportInput;
  verify: VerifyInput;
}

export interface Bundle {
  /**
   * What each download format serves: `path` on this disk, under the output folder (model.onnx, tfjs.zip of model.json
   * and its shards, model.safetensors, bundle.zip), and the report that is a page of its own.
   */
  files: Record<'onnx' | 'tfjs' | 'safetensors' | 'bundle' | 'report', FileEntry>;
  manifest: Manifest;
  /** Largest difference found between each runtime and the expected outputs. */
  differences: { onnx: number; tfjs: number };
}

/**
 * Writes the bundle and its parts into `outDir`, which is made when missing. Equal input gives equal bytes. The engine
 * must have been initialised: it runs the TF.js model.
 * @throws {JobError} `export-verification-failed` when ONNX Runtime or TF.js does not reproduce `verify.outputs`; what
 *   was written by then stays in `outDir`.
 */
export async function buildBundle(input: BundleInput, outDir: string): Promise<Bundle> {
  checkSizes(input);
  const base = {
    schema_version: 1 as const,
    ...input.manifest,
    outputs: [{ name: input.output, shape: ['N', input.graph.outputs] }],
  };
  const contents = encode(input, base);
  await writeFiles(outDir, contents);
  const differences = await verifyFiles(
    { onnx: join(outDir, 'model.onnx'), tfjs: join(outDir, 'tfjs') },
    { output: input.output, width: input.graph.input.width, height: input.graph.input.height },
    input.verify,
  );

  const names = [...contents.keys()].sort();
  const files = names.map((name) => entry(name, contents.get(name)!));
  const manifest: Manifest = { ...base, files };
  await writeFiles(outDir, new Map([['manifest.json', Buffer.from(safeJson(manifest))]]));

  const zip = async (target: string, members: readonly string[], prefix: string) => {
    await writeZip(
      join(outDir, target),
      new Map(members.map((name) => [name.slice(prefix.length), join(outDir, name)])),
    );
    return hashFile(join(outDir, target));
  };
  const onDisk = (name: string): FileEntry => ({
    ...files.find(({ path }) => path === name)!,
    path: join(outDir, name),
  });
  return {
    files: {
      onnx: onDisk('model.onnx'),
      tfjs: await zip(
        'tfjs.zip',
        names.filter((name) => name.startsWith('tfjs/')),
        'tfjs/',
      ),
      safetensors: onDisk('model.safetensors'),
      bundle: await zip('bundle.zip', ['manifest.json', ...names], ''),
      report: onDisk('report.html'),
    },
    manifest,
    differences,
  };
}

/** Mistakes of the caller that would otherwise make a bundle that contradicts itself. */
function checkSizes({ output, graph, manifest, card }: BundleInput): void {
  const { outputs } = graph;
  const { width, height } = manifest.preprocessing;
  const classes = output === 'logits' ? outputs : 0;
  if (manifest.labels.length !== classes || (card.classes && card.classes.length !== classes))
    throw new Error(
      `${outputs} outputs, but ${manifest.labels.length} labels and ${card.classes?.length ?? 0} classes on the card`,
    );
  if (width !== graph.input.width || height !== graph.input.height)
    throw new Error(
      `preprocessing gives ${width} x ${height} px, the network takes ${graph.input.width} x ${graph.input.height} px`,
    );
}

/** Every file but the manifest, by path in the bundle. */
function encode(
  { output, graph, tensors, card, report }: BundleInput,
  manifest: Omit<Manifest, 'files'>,
): Map<string, Uint8Array> {
  const { task, labels, preprocessing, genotype } = manifest;
  // No ids, which differ from job to job: the same seed gives the same model files. The lineage is in manifest.json.
  const metadata = { task, labels, preprocessing, genotype };
  // Formats whose metadata are strings hold each value as JSON.
  const strings = Object.fromEntries(
    Object.entries(metadata).map(([key, value]) => [
      key,
      typeof value === 'string' ? value : JSON.stringify(value),
    ]),
  );
  const contents = new Map<string, Uint8Array>([
    ['README.md', Buffer.from(renderCard(manifest, card))],
    ['model.onnx', encodeOnnx(graph, output, strings)],
    ['model.safetensors', writeSafetensors(tensors, strings)],
  ]);
  for (const [name, bytes] of encodeTfjs(graph, output, metadata)) contents.set(`tfjs/${name}`, bytes);
  for (const [name, content] of renderReport({ manifest, card, job: report }))
    contents.set(name, Buffer.from(content));
  return contents;
}

async function writeFiles(folder: string, contents: ReadonlyMap<string, Uint8Array>): Promise<void> {
  for (const [name, bytes] of contents) {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, bytes);
  }
}

function entry(path: string, bytes: Uint8Array): FileEntry {
  return { path, sha256: createHash('sha256').update(bytes).digest('hex'), size: bytes.length };
}

async function hashFile(path: string): Promise<FileEntry> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return { path, sha256: hash.digest('hex'), size: (await stat(path)).size };
}
