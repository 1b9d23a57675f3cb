// Batches made by hand, bounded in bytes.
//
// While one batch is on its way events gather for the next, so that a lone event waits
// for no other and a flood makes large batches. One at a time keeps the order of a job's
// events, and is what KafkaJS's idempotent producer wants.
'use strict';

// All of a batch may go to one partition, whose limit is Kafka's default of 1 MiB.
const MOST_BYTES = 900_000;
const MOST_EVENTS = 2_000;

// What Kafka writes beside a key and a value.
const BYTES_BESIDE = 32;

module.exports = class Batches {
    // send: gives a promise that is kept when Kafka has a batch.
    constructor(send) {
        this.send = send;
        this.waiting = [];
        this.first = 0;
        this.sending = false;
    }

    add(key, value) {
        this.waiting.push({ key, value });
        if (!this.sending) {
            this.sending = true;
            // After all events that the same read of the socket brought.
            setImmediate(() => this.drain());
        }
    }

    take() {
        const begin = this.first;
        let end = begin;
        let bytes = 0;
        while (end < this.waiting.length && end - begin < MOST_EVENTS) {
            const { key, value } = this.waiting[end];
            bytes += key.length + value.length + BYTES_BESIDE;
            if (bytes > MOST_BYTES && end > begin) break;
            end += 1;
        }
        const batch = this.waiting.slice(begin, end);
        this.first = end;
        if (this.first === this.waiting.length) {
            this.waiting = [];
            this.first = 0;
        } else if (this.first > this.waiting.length / 2) {
            // Not each time: it moves all that wait.
            this.waiting = this.waiting.slice(this.first);
            this.first = 0;
        }
        return batch;
    }

    async drain() {
        while (this.first < this.waiting.length) {
            await this.send(this.take());
        }
        this.sending = false;
    }

    async empty() {
        while (this.sending) await new Promise((go) => setTimeout(go, 10));
    }
};
