// The subscription of both programs for Node, as dryAPI's documentation writes it.
'use strict';

const Pusher = require('pusher-js');

const { APP_KEY, CHANNEL, EVENT, PORT } = process.env;

module.exports = function subscribe(onEvent) {
    const pusher = new Pusher(APP_KEY, {
        wsHost: '127.0.0.1',
        wsPort: Number(PORT),
        forceTLS: false,
        cluster: 'mt1',
        enabledTransports: ['ws', 'wss'],
        authorizer: (channel) => ({
            authorize: async (socketId, callback) => {
                try {
                    const answer = await fetch(`http://127.0.0.1:${PORT}/broadcasting/auth`, {
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
