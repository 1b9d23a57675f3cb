// The subscription of both programs for Node, as dryAPI's documentation writes it.
'use strict';

const Pusher = require('pusher-js');

const { API_URL, APP_KEY, CHANNEL, EVENT, PUSHER_URL } = process.env;
const { hostname, port } = new URL(PUSHER_URL);

module.exports = function subscribe(onEvent) {
    const pusher = new Pusher(APP_KEY, {
        wsHost: hostname,
        wsPort: Number(port),
        forceTLS: false,
        cluster: 'mt1',
        enabledTransports: ['ws', 'wss'],
        authorizer: (channel) => ({
            authorize: async (socketId, callback) => {
                try {
                    const answer = await fetch(`${API_URL}/broadcasting/auth`, {
                        method: 'POST',
                        headers: { 'Content-Type': 'application/json', 'Authorization': 'Bearer any' },
                        body: JSON.stringify({ socket_id: socketId, channel_name: channel.name })
                    });
                    callback(null, await answer.json());
                } catch (error) {
                    callback(error);
                }
            }
        })
    });
    pusher.connection.bind('error', (error) => console.error('Error:', error));
    pusher.subscribe(CHANNEL).bind(EVENT, onEvent);
    return pusher;
};
