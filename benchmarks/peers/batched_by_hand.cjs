// pusher-js and KafkaJS, which gathers nothing by itself: batches.cjs does.
'use strict';

const { Kafka, Partitioners, logLevel } = require('kafkajs');
const Batches = require('./batches.cjs');
const subscribe = require('./subscription.cjs');

const { KAFKA, TOPIC } = process.env;

// KafkaJS's own 30 s between two tries would outlast most outages.
const MOST_RETRY_MS = 2_000;

async function main() {
    const kafka = new Kafka({
        clientId: 'peer',
        brokers: [KAFKA],
        logLevel: logLevel.ERROR,
        // By default it gives a broker up that is away for some ten seconds, although an
        // idempotent producer tries for ever.
        retry: { retries: Number.MAX_SAFE_INTEGER, maxRetryTime: MOST_RETRY_MS }
    });
    const producer = kafka.producer({
        createPartitioner: Partitioners.DefaultPartitioner,
        idempotent: true,
        maxInFlightRequests: 1
    });
    await producer.connect();
    const batches = new Batches((messages) => producer.send({ topic: TOPIC, acks: -1, messages }));

    const pusher = subscribe((data) => {
        // A buffer's length is the one in bytes.
        batches.add(data.request_id, Buffer.from(JSON.stringify(data)));
    });

    // A batch that KafkaJS drops, as none that another try could help, ends the
    // process: what waits behind it must not overtake it.
    process.on('SIGTERM', async () => {
        pusher.disconnect();
        await batches.empty();
        await producer.disconnect();
        process.exit();
    });
}

main();
