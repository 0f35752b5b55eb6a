//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
)

var errLinuxOnly = errors.New("test cluster needs Linux; use any other cluster: make e2e KUBECONFIG=FILE")

const adminKubeconfig = ""

func check() error                                          { return errLinuxOnly }
func up(context.Context, string, io.Writer) error           { return errLinuxOnly }
func down(io.Writer) error                                  { return errLinuxOnly }
func kill(string) error                                     { return errLinuxOnly }
func supervise(context.Context) error                       { return errLinuxOnly }
func runSecond(context.Context, io.Reader, io.Writer) error { return errLinuxOnly }
