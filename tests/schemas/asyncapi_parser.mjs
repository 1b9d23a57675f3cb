// Judges an AsyncAPI document with the official parser: one JSON object on stdout.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

// The packages stand in a cache folder, not beside this file.
const [folder, file] = process.argv.slice(2);
const { Parser } = createRequire(`${folder}/package.json`)('@asyncapi/parser');

const { document, diagnostics } = await new Parser().parse(readFileSync(file, 'utf8'));
console.log(
  JSON.stringify({
    // Severities: 0 is an error, 1 a warning; 2 and 3 are advice.
    problems: diagnostics
      .filter(({ severity }) => severity < 2)
      .map(({ path, message }) => `${path.join('.')}: ${message}`),
    messages: (document?.channels().all() ?? []).flatMap((channel) =>
      channel.messages().all().map((message) => ({
        name: message.name(),
        topic: channel.address(),
        headers: Object.keys(message.headers().properties() ?? {}),
        members: Object.keys(message.payload().properties() ?? {}),
        key: message.bindings().get('kafka').value().key.type,
        examples: message.examples().all().length,
      })),
    ),
    operations: (document?.operations().all() ?? []).map((operation) => operation.action()),
  }),
);
