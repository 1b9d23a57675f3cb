// pusher-js and KafkaJS, joined by the line that comes first to mind: an event, a send.
'use strict';

const { Kafka, Partitioners, logLevel } = require('kafkajs');
const subscribe = require('./subscription.cjs');

const { KAFKA, TOPIC } = process.env;

async function main() {
    const kafka = new Kafka({ clientId: 'peer', brokers: [KAFKA], logLevel: logLevel.ERROR });
    // acks of all replicas is KafkaJS's default.
    const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
    await producer.connect();

    const pusher = subscribe(async (data) => {
        try {
            await producer.send({
                topic: TOPIC,
                messages: [{ key: data.request_id, value: JSON.stringify(data) }]
            });
        } catch (error) {
            console.error('lost an event of', data.request_id, error);
        }
    });

    process.on('SIGTERM', async () => {
        pusher.disconnect();
        await producer.disconnect();
        process.exit();
    });
}

main();
