import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

const service = "http://127.0.0.1:8080";

export default defineConfig({
  // Relative addresses: the page works behind a proxy's path prefix as well as at the root.
  base: "./",
  plugins: [svelte()],
  build: {
    target: "es2022",
    // Its helper would be an inline script in some browsers' eyes, and there is little to preload.
    modulePreload: { polyfill: false },
    // The machine view's chart is one lazy file of about 500 kB, on purpose.
    chunkSizeWarningLimit: 700,
  },
  server: {
    host: "127.0.0.1",
    proxy: { "/v1": { target: service } },
  },
});
