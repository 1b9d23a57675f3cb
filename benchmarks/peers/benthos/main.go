// Benthos with an output of franz-go: a generic streaming tool as a peer of the bridge.
//
// It is the core of Redpanda Connect, whose own Kafka output stands on the same
// client. What it reads and what it makes of it says config.yaml beside.
package main

import (
	"context"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"
)

// output writes batches to one topic; the client's defaults are acks of all
// replicas and an idempotent producer.
type output struct {
	servers []string
	topic   string
	key     *service.InterpolatedString
	client  *kgo.Client
}

func newOutput(config *service.ParsedConfig, _ *service.Resources) (
	service.BatchOutput, service.BatchPolicy, int, error,
) {
	var made output
	var batching service.BatchPolicy
	var inFlight int
	var err error
	if made.servers, err = config.FieldStringList("seed_brokers"); err != nil {
		return nil, batching, 0, err
	}
	if made.topic, err = config.FieldString("topic"); err != nil {
		return nil, batching, 0, err
	}
	if made.key, err = config.FieldInterpolatedString("key"); err != nil {
		return nil, batching, 0, err
	}
	if batching, err = config.FieldBatchPolicy("batching"); err != nil {
		return nil, batching, 0, err
	}
	if inFlight, err = config.FieldMaxInFlight(); err != nil {
		return nil, batching, 0, err
	}
	return &made, batching, inFlight, nil
}

func (o *output) Connect(ctx context.Context) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(o.servers...),
		kgo.DefaultProduceTopic(o.topic),
		// Benthos gathers batches; to wait for more here would add to it.
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	)
	if err != nil {
		return err
	}
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return err
	}
	o.client = client
	return nil
}

func (o *output) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	keys := batch.InterpolationExecutor(o.key)
	records := make([]*kgo.Record, len(batch))
	for place, message := range batch {
		key, err := keys.TryBytes(place)
		if err != nil {
			return err
		}
		value, err := message.AsBytes()
		if err != nil {
			return err
		}
		records[place] = &kgo.Record{Key: key, Value: value}
	}
	return o.client.ProduceSync(ctx, records...).FirstErr()
}

func (o *output) Close(context.Context) error {
	if o.client != nil {
		o.client.Close()
	}
	return nil
}

func main() {
	spec := service.NewConfigSpec().Fields(
		service.NewStringListField("seed_brokers"),
		service.NewStringField("topic"),
		service.NewInterpolatedStringField("key"),
		service.NewBatchPolicyField("batching"),
		service.NewOutputMaxInFlightField(),
	)
	if err := service.RegisterBatchOutput("franz", spec, newOutput); err != nil {
		panic(err)
	}
	service.RunCLI(context.Background())
}
