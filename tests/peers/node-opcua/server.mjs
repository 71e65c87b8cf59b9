// An OPC UA server of another stack: node server.mjs '{"port": 4840, "folder": "/tmp/x", "trustAll": true}'
// Says one JSON line when it listens, and ends with its standard input. See README.md.
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(import.meta.url);
const { OPCUAServer, OPCUACertificateManager } = {
  ...require("node-opcua-server"),
  ...require("node-opcua-certificate-manager"),
};
const { MessageSecurityMode, SecurityPolicy } = require("node-opcua-secure-channel");
const { DataType, Variant } = require("node-opcua-variant");

const options = JSON.parse(process.argv[2]);
const period = options.period ?? 50;

const certificates = new OPCUACertificateManager({
  automaticallyAcceptUnknownCertificate: options.trustAll ?? true,
  rootFolder: path.join(options.folder, "pki"),
});
await certificates.initialize();
const server = new OPCUAServer({
  host: "127.0.0.1",
  port: options.port,
  hostname: "127.0.0.1",
  serverCertificateManager: certificates,
  serverInfo: { applicationUri: "urn:test:node-opcua" },
  securityPolicies: [
    SecurityPolicy.None,
    SecurityPolicy.Basic256Sha256,
    SecurityPolicy.Aes128_Sha256_RsaOaep,
    SecurityPolicy.Aes256_Sha256_RsaPss,
  ],
  securityModes: [
    MessageSecurityMode.None,
    MessageSecurityMode.Sign,
    MessageSecurityMode.SignAndEncrypt,
  ],
  allowAnonymous: options.anonymous ?? false,
  userManager: { isValidUser: (name, password) => name === "edge" && password === options.password },
  serverCapabilities: { maxSessions: options.maxSessions ?? 10 },
});
await server.initialize();
const space = server.engine.addressSpace;
const own = space.getOwnNamespace();
const folder = own.addObject({ organizedBy: space.rootFolder.objects, browseName: "Press" });
const counter = own.addVariable({
  componentOf: folder,
  browseName: "Counter",
  nodeId: "s=Counter",
  dataType: DataType.Double,
  minimumSamplingInterval: 0,
});
let count = 0;
const next = () => counter.setValueFromSource(new Variant({ dataType: DataType.Double, value: ++count }));
next();
const timer = setInterval(next, period);
await server.start();
console.log(JSON.stringify({ ready: true }));

process.stdin.resume();
for await (const line of process.stdin) {
  // Any line asks how many sessions there are.
  console.log(JSON.stringify({ sessions: server.engine.currentSessionCount, line: String(line).trim() }));
}
clearInterval(timer);
await server.shutdown(0);
