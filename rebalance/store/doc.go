// Package store keeps what a cluster manager must not forget: the buckets with their maps, and the epochs.
//
// [Store] is the small interface that a medium implements: values under keys with compare-and-set and watch.
// [OpenFile] is the one of a manager that is started again, [NewMemory] the one for tests and for managers whose cluster
// dies with them. What a medium must do is written at the interface and checked by package storetest.
//
// [Buckets] is the typed layer on top: bucket documents, whose chains change one by one with compare-and-set, and the
// counter of epochs.
package store
