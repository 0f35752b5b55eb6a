package wake

import "testing"

func TestTriggerMergesFires(t *testing.T) {
	trigger := NewTrigger()
	trigger.Fire()
	trigger.Fire()
	<-trigger.C()
	select {
	case <-trigger.C():
		t.Error("two fires before a receive woke the receiver twice")
	default:
	}
}

func TestBroadcastWakesAllWaiters(t *testing.T) {
	var b Broadcast
	b.Fire() // nobody waits
	first, second := b.C(), b.C()
	select {
	case <-first:
		t.Fatal("a waiter was woken by an earlier fire")
	default:
	}
	b.Fire()
	<-first
	<-second
	select {
	case <-b.C():
		t.Error("a later waiter was woken by an earlier fire")
	default:
	}
}
