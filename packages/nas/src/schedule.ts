/**
 * How long jobs train by default: read by the trainer that plans them, and by the service that estimates them and
 * knows no tensors.
 */

/** Architectures evaluated. */
export const DEFAULT_CANDIDATES = 48;
/** Epochs of the joint transfer and of finetuning by default, and their ceilings when there is time for more. */
export const EPOCHS = {
  transfer: 10,
  finetune: 50,
  maxTransfer: 40,
  maxFinetune: 200,
  pretrain: 20,
} as const;
/** Image passes after which another epoch of a large set is no longer the default. */
const DEFAULT_PASSES = 200_000;
/** Finetuning epochs for each epoch of joint transfer. */
export const FINETUNE_RATIO = EPOCHS.finetune / EPOCHS.transfer;
/**
 * The first part of finetuning, of its schedule, sees training images alone, so that validation images can still tell what
 * it brings: for the report. The rest sees both.
 */
export const FIRST_PART = 0.1;

/** Training images that batch norms are calibrated on before a candidate is judged. */
export const CALIBRATION_IMAGES = 500;

/**
 * Images that linear evaluation shows a candidate, of each split at most. Its search has only to rank: finalists are
 * judged once more on everything. The share of the training images keeps a search at a fraction of a supervised one's
 * time, which grows with them too.
 */
export const PROBE = {
  finalists: 3,
  calibration: 128,
  share: 0.3,
  least: 200,
  most: 1000,
  validation: 400,
} as const;

/** Training images that a candidate's probe is fitted to. */
export const probeImages = (train: number): number =>
  Math.min(train, Math.round(Math.max(PROBE.least, Math.min(PROBE.most, PROBE.share * train))));

/** Epochs of a job that no clock bounds. Few candidates are asked for by those who want an answer soon. */
export function defaultEpochs(
  maxCandidates: number | null,
  trainImages: number,
): { transfer: number; finetune: number } {
  const wanted = Math.min(EPOCHS.transfer, Math.max(1, Math.round((maxCandidates ?? Infinity) / 4)));
  const transfer = Math.max(1, Math.min(wanted, Math.round(DEFAULT_PASSES / trainImages)));
  return { transfer, finetune: Math.round(transfer * FINETUNE_RATIO) };
}
