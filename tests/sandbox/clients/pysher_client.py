# Shown as dryAPI documents it; run by the tests, not imported.
# ruff: noqa: D100, D103, ANN001, ANN201, I001, Q000, T201
# mypy: ignore-errors
# fmt: off
import pysher
import time

YOUR_API_TOKEN = 'your-api-token'
YOUR_CLIENT_ID = 'your-client-id'

pusher = pysher.Pusher(
    key='depin-api-prod-key',
    custom_host='soketi.dryapi.dev',
    secure=True,
    port=443,
    auth_endpoint='https://api.dryapi.dev/broadcasting/auth',
    auth_endpoint_headers={
        'Authorization': f'Bearer {YOUR_API_TOKEN}'
    }
)

def on_connect(data):
    channel = pusher.subscribe(f'private-client.{YOUR_CLIENT_ID}')
    channel.bind('request.status.updated', lambda data: print(f'Update: {data}'))

pusher.connection.bind('pusher:connection_established', on_connect)
pusher.connect()

while True:
    time.sleep(1)
