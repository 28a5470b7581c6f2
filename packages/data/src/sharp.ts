import sharp from 'sharp';

// Every image is seen once, so libvips' cache would only hold memory; parallelism is over images, not inside one.
sharp.cache(false);
sharp.concurrency(1);

export { sharp };
