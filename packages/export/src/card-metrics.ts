/** The metrics of every task, as rows of the model card. */
import type { ClassificationMetrics, Metrics, Slice } from '@ntaa/contracts';
import { count, fraction, interval, percent, withInterval, years } from './markdown.js';
import { markdownText } from './text.js';

export function metricRows(measured: Metrics): string[][] {
  if ('top1' in measured) return classified(measured);
  if ('mae' in measured)
    return [
      ['Mean absolute error', withInterval(measured.mae, measured.mae_interval, years)],
      ['Within five years, CS(5)', withInterval(measured.cs5, measured.cs5_interval)],
      ['Error of always answering the median age', years(measured.constant_mae)],
    ];
  if ('map' in measured)
    return [
      ['Mean average precision', withInterval(measured.map, measured.map_interval)],
      ['Rank-1', withInterval(measured.rank1, measured.rank1_interval)],
      ['Rank-5', fraction(measured.rank5, measured.queries)],
      ['Rank-10', fraction(measured.rank10, measured.queries)],
      ['Queries', `${count(measured.queries)} (${count(measured.skipped_queries)} without a match skipped)`],
      ['Gallery', `${count(measured.gallery)} images of ${count(measured.identities)} identities`],
      ['Protocol', `Market-1501, queries ${measured.protocol}: same identity and camera dropped`],
    ];
  return [
    ['Accuracy on the labelled source (validation)', percent(measured.source_top1)],
    ['Mean confidence on the target', percent(measured.confidence)],
    ['Information on the target', `${measured.information.toFixed(4)} nats`],
    ...(measured.oracle
      ? classified(measured.oracle).map(([name, value]) => [`${name}, target (held-out labels)`, value!])
      : [['Accuracy on the target', 'not known: it has no labels']]),
  ];
}

function classified(measured: ClassificationMetrics): string[][] {
  const { top1, top1_interval: range, top5, balanced_accuracy: balanced, loss, ece, images } = measured;
  return [
    ['Top-1 accuracy', withInterval(top1, range)],
    ['Top-5 accuracy', fraction(top5, images)],
    ['Balanced accuracy', percent(balanced)],
    ['Cross-entropy', `${loss.toFixed(4)} nats`],
    ...(ece === undefined ? [] : [['Expected calibration error', percent(ece)]]),
  ];
}

/** The one number a network is compared by. */
export function headline(measured: Metrics): { name: string; value: string } {
  if ('top1' in measured)
    return {
      name: 'Top-1 (95% interval)',
      value: `${percent(measured.top1)} (${interval(measured.top1_interval)})`,
    };
  if ('mae' in measured)
    return {
      name: 'Mean absolute error (95% interval)',
      value: `${years(measured.mae)} (${interval(measured.mae_interval, years)})`,
    };
  if ('map' in measured)
    return {
      name: 'Mean average precision (95% interval)',
      value: `${percent(measured.map)} (${interval(measured.map_interval)})`,
    };
  const { oracle, source_top1 } = measured;
  return oracle
    ? { ...headline(oracle), name: 'Top-1 on the target (95% interval)' }
    : { name: 'Top-1 on the source', value: percent(source_top1) };
}

/** `text`: how the dataset's own words are written. */
export function sliceRows(
  measured: Metrics,
  text: (value: string) => string = markdownText,
): { head: string[]; rows: string[][] } {
  const slices: readonly Slice[] = 'slices' in measured ? (measured.slices ?? []) : [];
  const aged = 'mae' in measured;
  const head = ['Column', 'Value', 'Images', aged ? 'Within five years' : 'Correct'];
  return {
    head: aged ? [...head, 'Mean absolute error'] : head,
    rows: slices.map(({ column, value, images, accuracy, accuracy_interval: range, mae }) => [
      text(column),
      text(value),
      count(images),
      withInterval(accuracy, range),
      ...(mae === undefined ? [] : [years(mae)]),
    ]),
  };
}
