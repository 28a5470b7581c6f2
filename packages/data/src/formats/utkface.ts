import { AGES, DatasetError } from '@ntaa/contracts';
import { imageNamed, skip, unlabelled, type Format, type Layout } from './layout.js';

/** `AGE_GENDER_RACE_DATE.jpg`, gender 0 male, 1 female; also as `….jpg.chip.jpg`. */
const NAME = /^(\d{1,3})_([01])_([0-4])_(\d+)(\.[a-z]+)+$/i;
/** As the dataset's authors number them. */
const RACES = ['white', 'black', 'asian', 'indian', 'other'] as const;
const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);

export const utkface: Format = {
  detect(files) {
    const named = imageNamed(files);
    return named.length > 0 && named.filter(({ path }) => NAME.test(nameOf(path))).length * 2 > named.length;
  },
  read(files) {
    const layout: Layout = { images: new Map(), skipped: [], warnings: [], target: 'gender' };
    const named = new Set(imageNamed(files).map(({ path }) => path));
    for (const { path } of files) {
      const [, age, gender, race] = NAME.exec(nameOf(path)) ?? [];
      if (!named.has(path))
        layout.skipped.push(unlabelled(path, 'not an image named like AGE_GENDER_RACE_DATE.jpg'));
      else if (age === undefined || Number(age) > AGES.most)
        layout.skipped.push(skip(path, 'name-invalid', 'the name is not like AGE_GENDER_RACE_DATE.jpg'));
      else {
        const word = gender === '0' ? 'male' : 'female';
        const attributes = { race: RACES[Number(race)]! };
        layout.images.set(path, {
          ...{ path, label: word, split: null, age: Number(age), gender: word, attributes },
        });
      }
    }
    if (layout.images.size === 0)
      throw new DatasetError('format-invalid', 'no file is named like AGE_GENDER_RACE_DATE.jpg');
    return layout;
  },
};
