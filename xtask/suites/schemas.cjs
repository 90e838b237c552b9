// KafkaJS's client of schema registries against that of Weft: it registers, encodes, and decodes by the id.
//
// usage: node schemas.cjs BASE_URL

const { SchemaRegistry, SchemaType } = require("@kafkajs/confluent-schema-registry");

const [host] = process.argv.slice(2);
const registry = new SchemaRegistry({ host });
const reader = () => new SchemaRegistry({ host });

const FORMATS = [
  [SchemaType.AVRO, { type: "record", name: "Order", namespace: "js", fields: [{ name: "id", type: "string" }] }],
  [SchemaType.JSON, { type: "object", properties: { id: { type: "string" } }, required: ["id"] }],
  [SchemaType.PROTOBUF, 'syntax = "proto3"; package js; message Order { string id = 1; }'],
];

async function main() {
  let passed = 0;
  const cases = FORMATS.map(([type, schema]) => [type, async () => {
    const text = typeof schema === "string" ? schema : JSON.stringify(schema);
    const subject = `js-${type.toLowerCase()}-value`;
    const { id } = await registry.register({ type, schema: text }, { subject });
    const packed = await registry.encode(id, { id: "7" });
    const read = await reader().decode(packed);
    if (packed[0] !== 0 || read.id !== "7") throw new Error(JSON.stringify(read));
    if ((await reader().getLatestSchemaId(subject)) !== id) throw new Error("not the latest id");
    if ((await reader().getRegistryId(subject, 1)) !== id) throw new Error("not the id of version 1");
  }]);
  cases.push(["incompatible", async () => {
    const schema = JSON.stringify({ type: "record", name: "Order", namespace: "js", fields: [{ name: "id", type: "int" }] });
    const wrong = registry.register({ type: SchemaType.AVRO, schema }, { subject: "js-avro-value" });
    const said = await wrong.then(() => "", (error) => error.message);
    if (!said.includes("TYPE_MISMATCH")) throw new Error(said || "nobody refused");
  }]);
  for (const [name, run] of cases) {
    try {
      await run();
      passed += 1;
    } catch (error) {
      console.error(`${name}: ${error.stack}`);
    }
  }
  console.log(`PASSED ${passed}/${cases.length}`);
  process.exit(passed === cases.length ? 0 : 1);
}

main();
