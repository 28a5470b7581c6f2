/** The report of a job: a page, and its pictures as files of their own. */
import { architecturePicture, compareArchitectures } from './architecture.js';
import { calibrationPicture, confusionPicture, slicesPicture } from './classes.js';
import { curvesPicture } from './curves.js';
import { gainPicture } from './gain.js';
import type { Subject } from './input.js';
import { classMetrics, renderPage, type PictureName } from './page.js';
import { frontOf, paretoPicture } from './pareto.js';
import { standalone, type Picture } from './picture.js';

/** Path in the bundle to content: `report.html`, and `report/NAME.svg` for what this job has to show. */
export function renderReport(subject: Subject): Map<string, string> {
  const { metrics, labels } = subject.manifest;
  const classes = classMetrics(metrics);
  const slices = 'slices' in metrics ? (metrics.slices ?? []) : [];
  const { points, measured } = frontOf(subject);
  const all: [PictureName, Picture | null][] = [
    ['pareto', points.length + measured.length > 0 ? paretoPicture(subject) : null],
    ['gain', gainPicture(subject)],
    ['architecture', architecturePicture(compareArchitectures(subject))],
    [
      'slices',
      slicesPicture(slices, 'mae' in metrics ? 'Ages within five years' : 'Answers that were right'),
    ],
    ['confusion', classes && confusionPicture(classes, labels)],
    ['calibration', classes && calibrationPicture(classes)],
    ['learning-curves', curvesPicture(subject)],
  ];
  const pictures = new Map(all.filter((entry): entry is [PictureName, Picture] => entry[1] !== null));
  return new Map([
    ['report.html', renderPage(subject, pictures)],
    ...[...pictures].map(([name, picture]) => [`report/${name}.svg`, standalone(picture)] as const),
  ]);
}
