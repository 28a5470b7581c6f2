import { DatasetError } from '@ntaa/contracts';
import {
  imageNamed,
  splitNamed,
  unlabelled,
  type Annotation,
  type Format,
  type Layout,
  type ListedFile,
} from './layout.js';

/** `[train|val|test/]CLASS/IMAGE`; folders that wrap everything are looked through. */
export const imageFolder: Format = {
  detect: (files) => imageNamed(files).some(({ path }) => path.includes('/')),
  read(files) {
    const wrapper = wrapperOf(files);
    const images = new Map<string, Annotation>();
    const skipped: Layout['skipped'] = [];
    const withSplits = hasSplits(files, wrapper);
    for (const { path } of files) {
      const parts = path.slice(wrapper.length).split('/');
      const split = withSplits ? splitNamed(parts[0]!) : null;
      const label = parts[split ? 1 : 0];
      if (!path.startsWith(wrapper) || label === undefined || parts.length < (split ? 3 : 2))
        skipped.push(unlabelled(path, 'the file is not inside a class folder'));
      else images.set(path, { path: parts.join('/'), label, split });
    }
    if (images.size === 0)
      throw new DatasetError('format-invalid', 'no file lies in a class folder; expected CLASS/IMAGE');
    return { images, skipped, warnings: [], target: 'label' };
  },
};

/** The folders, if any, that hold all images without being a class or a split: `data/` or `data/images/`. */
function wrapperOf(files: readonly ListedFile[]): string {
  const named = imageNamed(files);
  const paths = (named.length > 0 ? named : files)
    .map(({ path }) => path)
    .filter((path) => path.includes('/'));
  let wrapper = '';
  for (;;) {
    const rests = paths.map((path) => path.slice(wrapper.length).split('/'));
    const first = rests[0]?.[0];
    const single = first !== undefined && rests.every((parts) => parts[0] === first && parts.length > 2);
    if (!single || splitNamed(first)) return wrapper;
    wrapper += `${first}/`;
  }
}

/** A class may be called "train" as well: split folders are split folders when they alone lie at the top, with classes inside. */
function hasSplits(files: readonly ListedFile[], wrapper: string): boolean {
  const inside = imageNamed(files)
    .filter(({ path }) => path.startsWith(wrapper))
    .map(({ path }) => path.slice(wrapper.length).split('/'))
    .filter((parts) => parts.length > 1);
  return (
    inside.every((parts) => splitNamed(parts[0]!) !== null) &&
    inside.some((parts) => splitNamed(parts[0]!) === 'train' && parts.length > 2)
  );
}
