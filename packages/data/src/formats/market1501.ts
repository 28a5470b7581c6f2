import { DatasetError, type Split } from '@ntaa/contracts';
import { skip, unlabelled, type Annotation, type Format, type Layout } from './layout.js';

const FOLDERS: Record<string, { split: Split; role?: 'query' | 'gallery' }> = {
  bounding_box_train: { split: 'train' },
  query: { split: 'test', role: 'query' },
  bounding_box_test: { split: 'test', role: 'gallery' },
};
/** `0002_c1s1_000451_03.jpg`: identity, camera, sequence, frame, box. -1 is junk, 0000 a distractor. */
const NAME = /^(-1|\d+)_c(\d+)/;

export const market1501: Format = {
  detect: (files) => files.some(({ path }) => /(^|\/)bounding_box_train\//.test(path)),
  read(files) {
    const layout: Layout = { images: new Map(), skipped: [], warnings: [], target: 'identity' };
    for (const { path } of files) {
      const [folder, name] = path.split('/').slice(-2) as [string, string?];
      const place = FOLDERS[folder];
      const [, identity, camera] = NAME.exec(name ?? '') ?? [];
      if (!place || name === undefined)
        layout.skipped.push(unlabelled(path, 'the file is outside of the Market-1501 folders'));
      else if (identity === undefined || camera === undefined)
        layout.skipped.push(skip(path, 'name-invalid', 'the name does not begin like 0002_c1'));
      else if (identity === '-1')
        layout.skipped.push(skip(path, 'junk-box', 'boxes of identity -1 are ignored by the protocol'));
      else
        layout.images.set(path, {
          path: `${folder}/${name}`,
          label: identity,
          identity,
          camera,
          ...place,
        });
    }
    checkProtocol([...layout.images.values()]);
    return layout;
  },
};

/** Training and test people differ, and some query can be answered from another camera. */
function checkProtocol(images: readonly Annotation[]): void {
  const refuse = (why: string, where?: string): never => {
    throw new DatasetError('reid-protocol', why, where);
  };
  const train = new Set(images.filter(({ split }) => split === 'train').map(({ identity }) => identity));
  const query = images.filter(({ role }) => role === 'query');
  const gallery = images.filter(({ role }) => role === 'gallery');
  if (train.size === 0) refuse('bounding_box_train holds no images');
  if (query.length === 0) refuse('query holds no images');
  if (gallery.length === 0) refuse('bounding_box_test holds no images');
  const shared = [...query, ...gallery].find(({ identity }) => train.has(identity) && Number(identity) !== 0);
  if (shared) refuse('an identity occurs both in training and in the test', shared.path);
  const cameras = new Map<string, Set<string>>();
  for (const { identity, camera } of gallery)
    cameras.set(identity!, (cameras.get(identity!) ?? new Set()).add(camera!));
  const answerable = query.some(({ identity, camera }) => {
    const others = cameras.get(identity!);
    return others !== undefined && (others.size > 1 || !others.has(camera!));
  });
  if (!answerable)
    refuse('no query has an image of the same identity by another camera in bounding_box_test');
}
